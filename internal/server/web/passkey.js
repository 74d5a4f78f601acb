// Lets a browser make or use a passkey: the form says what for, the answer goes back with
// it. Nothing else on these pages needs script.
"use strict";
(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const keys = (list) => (list || []).map((key) => ({ ...key, id: bytes(key.id) }));

  const ask = async (form) => {
    const { publicKey } = JSON.parse(form.dataset.options);
    publicKey.challenge = bytes(publicKey.challenge);
    if (form.dataset.passkey === "create") {
      publicKey.user.id = bytes(publicKey.user.id);
      publicKey.excludeCredentials = keys(publicKey.excludeCredentials);
      return navigator.credentials.create({ publicKey });
    }
    publicKey.allowCredentials = keys(publicKey.allowCredentials);
    return navigator.credentials.get({ publicKey });
  };

  const write = (key) => {
    const from = key.response;
    const response = { clientDataJSON: text(from.clientDataJSON) };
    if (from.attestationObject) {
      response.attestationObject = text(from.attestationObject);
      response.transports = from.getTransports ? from.getTransports() : [];
    } else {
      response.authenticatorData = text(from.authenticatorData);
      response.signature = text(from.signature);
      if (from.userHandle) response.userHandle = text(from.userHandle);
    }
    return JSON.stringify({ id: key.id, rawId: text(key.rawId), type: key.type, response, clientExtensionResults: {} });
  };

  const say = (fault) => {
    switch (fault.name) {
      case "NotAllowedError": return "The passkey was not used: it was cancelled, took too long, or is not on this device.";
      case "InvalidStateError": return "This device has a passkey for you here already.";
      case "SecurityError": return "The browser allows no passkeys at this address.";
    }
    return "The passkey did not work on this device.";
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const problem = form.querySelector("[role=alert]");
    const button = form.querySelector("button");
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      problem.hidden = true;
      button.disabled = true;
      try {
        if (!window.PublicKeyCredential) throw new Error("no passkeys");
        form.elements.answer.value = write(await ask(form));
        form.submit();
      } catch (fault) {
        problem.textContent = window.PublicKeyCredential ? say(fault) : "This browser knows no passkeys.";
        problem.hidden = false;
        button.disabled = false;
        button.focus();
      }
    });
  }
})();
