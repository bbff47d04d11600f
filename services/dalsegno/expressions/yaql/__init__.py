"""YAQL: parsed by its library, compiled to closures; the library evaluates rare expressions."""
