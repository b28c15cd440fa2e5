"""tutelage: align a small language model from its own judgement or from a stronger teacher."""
