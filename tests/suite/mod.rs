mod gguf;
mod quant;
