"""Random bytes and mutated valid messages, through everything that reads what others wrote."""
