"""What feeds and drives the zoo: configuration, data, training, evaluation."""
