"""The samples of open runs, live, to other systems than the run's store."""
