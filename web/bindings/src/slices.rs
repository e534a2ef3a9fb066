//! Long steps on the CPU in slices: the worker answers messages between them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use js_sys::{Function, Promise};
use pagelm::engine::Engine;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

/// What happens between the slices of steps.
pub struct Slices<'a> {
    /// Returns a promise that lets messages in, and of whether to give the step up. `None` where steps have no slices: a GPU
    /// works beside the worker.
    pause: Option<&'a Function>,
}

impl<'a> Slices<'a> {
    pub fn of(engine: &Engine, pause: &'a Function) -> Self {
        Self { pause: (engine.backend().name() == "cpu").then_some(pause) }
    }

    /// What comes of a future of the engine, or nothing if it was given up.
    pub async fn run<T>(self, future: impl Future<Output = T>) -> Result<Option<T>, JsValue> {
        let mut future = pin!(future);
        let Some(pause) = self.pause else { return Ok(Some(future.await)) };
        loop {
            if let Poll::Ready(value) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
                return Ok(Some(value));
            }
            let paused: Promise = pause.call0(&JsValue::NULL)?.unchecked_into();
            if JsFuture::from(paused).await?.is_truthy() {
                return Ok(None);
            }
        }
    }
}
