import private_lora  # before torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("resources/nano")
model = AutoModelForCausalLM.from_pretrained("resources/nano", dtype="float32")
model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
session = private_lora.make_private(model, backend="packed", bits=8)
rows = [tokenizer(f"Locker {i} belongs to {name}.") for i, name in enumerate(["Ada", "Ben", "Cleo", "Dan"] * 8)]
settings = TrainingArguments("own-adapter", max_steps=8, save_steps=4, logging_steps=1, learning_rate=2e-3, report_to="none")
trainer = Trainer(model, settings, DataCollatorForLanguageModeling(tokenizer, mlm=False), rows)
trainer.train()
model.save_pretrained("own-adapter")
print(session.summary())
session.close()
