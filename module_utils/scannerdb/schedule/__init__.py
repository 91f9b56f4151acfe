"""When jobs run, when they ran, and what follows from both."""
