"""What a person reads of a run: progress and tables on the terminal, the report, the model card."""
