"""Kill the real commands at random moments, start them again, and compare with a run that was left alone."""
