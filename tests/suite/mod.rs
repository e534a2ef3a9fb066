mod gguf;
mod quant;
mod text;
mod text_template;
mod text_stream;
