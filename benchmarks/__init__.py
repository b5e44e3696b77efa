"""What the project claims of speed, memory and safety, shown by one run each."""
