"""The report on one run: as text, as JSON, and as one page of HTML."""
