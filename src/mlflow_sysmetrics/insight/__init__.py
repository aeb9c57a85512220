"""From what was sampled to what it says of the run: statistics, summary and findings."""
