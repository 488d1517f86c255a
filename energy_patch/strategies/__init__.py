"""What each strategy declares, a file each."""
