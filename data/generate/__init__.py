"""How the bundled pictures, tasks and miniature models were made; not needed to use the project."""
