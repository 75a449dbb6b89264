"""The workbook's own code: figures, the explorer, and what a notebook or two need.

It stands on the codec, never the reverse.

viz        pictures, charts and tables of the notebooks
lessons    experiments of one notebook or two
explorer   sliders over the codec
"""
