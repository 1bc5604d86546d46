"""The library: data, model, training, evaluation, figures and tracking. It never imports Prefect."""
