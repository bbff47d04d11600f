"""Orquesta: definitions as StackStorm runs them."""
