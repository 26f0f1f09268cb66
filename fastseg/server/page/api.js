// Requests to the server that sent this page.

const KEY = "fastseg-token";

function token() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEY);
}

export function useToken(value) {
  sessionStorage.setItem(KEY, value);
}

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function send(method, path, body, signal) {
  const headers = {};
  const held = token();
  if (held) headers.Authorization = `Bearer ${held}`;
  let content = body;
  if (body !== undefined && !(body instanceof Blob)) {
    headers["Content-Type"] = "application/json";
    content = JSON.stringify(body);
  } else if (body !== undefined) {
    headers["Content-Type"] = "application/octet-stream";
  }
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: content, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server does not answer. Is it still running?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new Refusal(answer.status, told?.error?.message ?? answer.statusText);
  }
  return answer;
}

export async function json(method, path, body, signal) {
  const answer = await send(method, path, body, signal);
  return answer.status === 204 || answer.status === 202 ? null : answer.json();
}

export async function blob(method, path, body) {
  const answer = await send(method, path, body);
  const named = /filename="(.+)"/.exec(answer.headers.get("Content-Disposition") ?? "");
  return { content: await answer.blob(), name: named?.[1] };
}

/** Events of a job, as their lines arrive. */
export async function* lines(path, body, signal) {
  const answer = await send("POST", path, body, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}

/** Offer a file for download. */
export function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
