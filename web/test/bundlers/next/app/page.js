"use client";

import { usePagelm } from "pagelm/react";
import { createElement, useEffect } from "react";
import { answer, show } from "../../app.js";

export default function Page() {
  // It is drawn on the server too.
  const { status } = usePagelm({ model: "/golden/llama.gguf", load: "asked", check: false });
  useEffect(() => {
    answer().then(show, (e) => show({ error: `${e.code}: ${e.message}` }));
  }, []);
  return createElement("p", null, status);
}
