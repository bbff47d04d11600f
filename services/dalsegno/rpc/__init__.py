"""The shared gRPC code of the services: conversion of messages, channels, errors, interceptors."""
