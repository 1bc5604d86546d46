// What the page asks: the server that it came from. The page without a server has a file of this name of its own.

// Ask the server, with the token if it wants one; throw its reason if it refuses.
async function call(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { ...options, headers });
  const content = await response.json();
  document.getElementById("access").hidden = response.status !== 401;
  if (!response.ok) throw new Error(content.detail);
  return content;
}

export const describe = () => call("model");

export async function predict(board, keep) {
  const image = await new Promise((done) => board.toBlob(done, "image/png"));
  const headers = { "Content-Type": "image/png" };
  const path = `predict?probabilities=true&seen=true&log=${keep}`;
  return call(path, { method: "POST", headers, body: image });
}

export function correct(id, label) {
  const body = JSON.stringify({ id, label });
  return call("feedback", { method: "POST", headers: { "Content-Type": "application/json" }, body });
}
