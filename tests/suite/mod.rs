mod gguf;
mod quant;
mod text;
