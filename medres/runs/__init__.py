"""The run folder: its layout, documents, event log, atomic writes, pseudonyms and progress."""
