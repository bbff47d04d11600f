"""The public services: writes go to the engine, reads come from the store, watchers receive every change."""
