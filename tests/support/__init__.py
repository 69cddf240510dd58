"""What tests share: a running service in this process, and people who use it."""
