"""What a battle is: layouts and their readers, validation, prompt groups, folds, swap, views."""
