"""The database backend for SQLite: Django's, with writers that take turns."""
