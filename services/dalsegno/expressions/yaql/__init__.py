"""YAQL: parsed by its own library, compiled to closures; what is rare is left to the library."""
