// Reads a diagram from each line (a JSON string), and answers each with a line: its type, or what is wrong with it.
import { createInterface } from "node:readline";
import { JSDOM } from "jsdom";

// Mermaid cleans labels with a library that wants a browser's document.
const { window } = new JSDOM("");
globalThis.window = window;
globalThis.document = window.document;
const { default: mermaid } = await import("mermaid");

for await (const line of createInterface({ input: process.stdin })) {
  try {
    const { diagramType } = await mermaid.parse(JSON.parse(line));
    console.log(JSON.stringify({ type: diagramType }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error.message) }));
  }
}
