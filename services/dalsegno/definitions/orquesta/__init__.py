"""The Orquesta language, as StackStorm runs it."""
