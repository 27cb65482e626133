"""Tiny models as transformers makes them: random, but with weights large enough that every part shows in the logits."""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

SPREAD = 0.2  # initializer_range
# PEFT's target modules for fedctl's canonical names, two of each family.
TARGETS = {
    "llama": {"query": "q_proj", "down": "down_proj"},
    "vit": {"query": "q_proj", "value": "v_proj"},
    "bert": {"query": "query", "value": "value"},
    "gpt2": {"qkv": "c_attn", "fc1": "c_fc"},
}


def classes(names):
    return {"id2label": dict(enumerate(names)), "label2id": {name: id for id, name in enumerate(names)}}


def llama(vocabulary, tied=False, width=16):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        hidden_size=width, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=vocabulary, max_position_embeddings=64, tie_word_embeddings=tied, initializer_range=SPREAD,
        pad_token_id=None, bos_token_id=0, eos_token_id=0))


def gpt2(vocabulary, width=16):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        n_embd=width, n_layer=2, n_head=4, n_positions=64, vocab_size=vocabulary, initializer_range=SPREAD,
        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0))


def bert(vocabulary, names, width=16):
    return transformers.BertForSequenceClassification(transformers.BertConfig(
        hidden_size=width, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, vocab_size=vocabulary,
        max_position_embeddings=64, initializer_range=SPREAD, hidden_dropout_prob=0, attention_probs_dropout_prob=0,
        **classes(names)))


def vit(names, channels=1, side=28, patch=7, width=16):
    return transformers.ViTForImageClassification(transformers.ViTConfig(
        hidden_size=width, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, image_size=side,
        patch_size=patch, num_channels=channels, initializer_range=SPREAD, hidden_dropout_prob=0,
        attention_probs_dropout_prob=0, **classes(names)))


def randomize(model, names, seed=1, spread=SPREAD):
    """Draws the parameters whose name holds one of `names` anew: biases and LoRA's B begin at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in names):
                parameter.add_(spread * torch.randn(parameter.shape, generator=generator))


def save(model, folder):
    randomize(model, ["bias", "norm", "ln_", "LayerNorm"], seed=2, spread=0.1)
    model.eval().save_pretrained(folder)
    return folder
