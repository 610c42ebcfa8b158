"""Ready experiments. Each file's head says its command, how long it takes and what to expect."""
