"""What the stages and the command `mammo` share."""
