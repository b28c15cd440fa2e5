"""AlpacaEval 2.0: its files and tables, its annotator asked through ``evaluate``, and a whole run of it.

The figures are in ``tutelage.evaluation.alpaca_eval`` and ``length_control``. The library alpaca_eval is imported in
``library`` alone, and only where its templates, its order or its fit are needed.
"""
