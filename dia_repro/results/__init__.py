"""The results database: typed tables, one writer, read-only queries, migrations."""
