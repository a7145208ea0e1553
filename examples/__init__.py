"""Programs that show one thing each; every one is run by a test with a real client."""
