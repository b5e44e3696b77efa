"""How the bundled models are made: training pictures, packed rows, optimisers, families."""
