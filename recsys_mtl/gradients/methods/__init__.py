"""One method of weighing tasks per file, as functions of plain numbers and tensors."""
