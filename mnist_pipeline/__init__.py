"""The library: data, model, training, evaluation, figures and tracking. It knows nothing of Prefect."""
