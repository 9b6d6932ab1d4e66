"""The paper's study in one dimension, where everything that the networks approximate is known in closed form."""
