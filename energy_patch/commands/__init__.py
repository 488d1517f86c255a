"""What each command does, stage by stage."""
