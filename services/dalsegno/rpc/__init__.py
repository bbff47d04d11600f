"""What every gRPC shell needs to speak: conversion of messages, channels, errors, interceptors."""
