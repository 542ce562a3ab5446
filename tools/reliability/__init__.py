"""What happens to trainings and predictions when something goes wrong, counted: a file a row."""
