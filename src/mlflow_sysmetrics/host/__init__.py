"""The only way to the machine: files, commands, clock, threads and forks."""
