"""`concrete_ml`: Concrete ML's own trainer, the reference implementation, on our model, batches and adapter."""
