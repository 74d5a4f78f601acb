// The lab's identity provider: the certified npm oidc-provider with accounts,
// clients and pages of its own. It is started by lab.StartOP.
//
// Standard input, one JSON value a line: first the configuration, then commands.
// Standard output, one JSON value a line: {"event":"ready"}, one line per request
// and per grant, and an answer to each command. No token is ever printed.
import { createServer as createHTTP } from 'node:http';
import { createServer as createHTTPS } from 'node:https';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const page = (title, body) => `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>${escape(title)}</title></head>
<body><h1>${escape(title)}</h1>${body}</body></html>`;

async function form(req) {
  let body = '';
  for await (const chunk of req) {
    body += chunk;
    if (body.length > 65536) throw new Error('form too large');
  }
  return new URLSearchParams(body);
}

function configuration(cfg, state) {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const account = (sub) => cfg.accounts.find((a) => a.sub === sub);
  const deviceCode = 'urn:ietf:params:oauth:grant-type:device_code';
  const user = {
    grant_types: ['authorization_code', 'refresh_token', deviceCode],
    response_types: ['code'],
    redirect_uris: cfg.redirect_uris,
    application_type: 'native',
    ...(cfg.backchannel && { backchannel_logout_uri: cfg.backchannel, backchannel_logout_session_required: true }),
    ...(cfg.after_logout && { post_logout_redirect_uris: [cfg.after_logout] }),
  };
  return {
    clients: [
      { ...user, client_id: 'letterlock', client_name: 'Letterlock', token_endpoint_auth_method: 'none' },
      { ...user, client_id: 'desktop', client_secret: cfg.client_secret, token_endpoint_auth_method: 'client_secret_post' },
      {
        client_id: 'dovecot', client_secret: cfg.client_secret, token_endpoint_auth_method: 'client_secret_post',
        grant_types: [], response_types: [], redirect_uris: [],
      },
    ],
    jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'lab' }] },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    scopes: cfg.scopes,
    claims: { openid: ['sub'], email: ['email', 'email_verified'] },
    conformIdTokenClaims: cfg.userinfo_only === true,
    pkce: { required: () => true },
    rotateRefreshToken: () => cfg.rotate,
    issueRefreshToken: (ctx, client, code) => client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
    ttl: {
      AccessToken: () => state.accessTTL,
      AuthorizationCode: 60,
      IdToken: 3600,
      DeviceCode: cfg.device_ttl,
      RefreshToken: 14 * 86400,
      Interaction: 3600,
      Session: 86400,
      Grant: 14 * 86400,
    },
    formats: { bitsOfOpaqueRandomness: cfg.token_bits },
    findAccount: (ctx, sub) => account(sub) && {
      accountId: sub,
      claims: () => ({ sub, email: account(sub).email, email_verified: true }),
    },
    // The library refuses to call loopback, which is where everything in the lab is.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    // Dovecot compares this with the login name.
    extraTokenClaims: (ctx, token) => account(token.accountId) && { email: account(token.accountId).email },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      deviceFlow: {
        enabled: true,
        userCodeInputSource: (ctx, html, out, err) => {
          ctx.body = page('Enter the code', `${err ? '<p id="problem">That code is not right.</p>' : ''}${html}
            <button id="continue" type="submit" form="op.deviceInputForm">Continue</button>`);
        },
        userCodeConfirmSource: (ctx, html, client, info, code) => {
          ctx.body = page('Is this your device?', `<p><code id="user-code">${escape(code)}</code></p>${html}
            <button id="confirm" type="submit" form="op.deviceConfirmForm">Continue</button>`);
        },
        successSource: (ctx) => { ctx.body = page('Signed in', '<p id="done">You can close this page.</p>'); },
      },
      introspection: { enabled: true },
      revocation: { enabled: true },
      registration: { enabled: cfg.registration },
      userinfo: { enabled: true },
      // Access tokens as JSON Web Tokens for one audience (RFC 8707, RFC 9068).
      resourceIndicators: {
        enabled: Boolean(cfg.audience),
        defaultResource: () => 'urn:lab:mail', // a resource is a URI, an audience any text
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: cfg.scopes.join(' '), audience: cfg.audience, accessTokenFormat: 'jwt', accessTokenTTL: state.accessTTL, jwt: { sign: { alg: 'RS256' } },
        }),
      },
      backchannelLogout: { enabled: Boolean(cfg.backchannel) },
    },
    renderError: (ctx, out) => {
      ctx.type = 'html';
      ctx.body = page('Error', `<p id="problem">${escape(out.error)}: ${escape(out.error_description ?? '')}</p>`);
    },
  };
}

// Gives the client everything it asked for, as the library's manual shows.
async function consent(provider, details) {
  const { prompt, params, session, grantId } = details;
  const grant = (grantId && await provider.Grant.find(grantId))
    || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  if (prompt.details.missingOIDCScope) grant.addOIDCScope(prompt.details.missingOIDCScope.join(' '));
  if (prompt.details.missingOIDCClaims) grant.addOIDCClaims(prompt.details.missingOIDCClaims);
  for (const [resource, scopes] of Object.entries(prompt.details.missingResourceScopes ?? {})) grant.addResourceScope(resource, scopes.join(' '));
  return { consent: { grantId: await grant.save() } };
}

async function interaction(provider, cfg, ctx) {
  const details = await provider.interactionDetails(ctx.req, ctx.res);
  const { prompt, params } = details;
  const signIn = (problem) => page('Sign in', `${problem ? `<p id="problem">${problem}</p>` : ''}<form method="post">
    <input name="username" autofocus><input name="password" type="password"><button id="signin">Sign in</button></form>`);
  if (ctx.method !== 'POST') {
    ctx.type = 'html';
    ctx.body = prompt.name === 'login' ? signIn() : page('Allow access', `<form method="post">
      <p>${escape(params.client_id)} asks for <span id="scope">${escape(params.scope)}</span></p>
      <button id="allow" name="answer" value="allow">Allow</button>
      <button id="deny" name="answer" value="deny">Deny</button></form>`);
    return;
  }
  const fields = await form(ctx.req);
  let result;
  if (prompt.name === 'login') {
    const who = cfg.accounts.find((a) => [a.name, a.email].includes(fields.get('username')) && a.password === fields.get('password'));
    if (!who) {
      ctx.type = 'html';
      ctx.body = signIn('Wrong name or password.');
      return;
    }
    result = { login: { accountId: who.sub } };
  } else if (fields.get('answer') === 'allow') {
    result = await consent(provider, details);
  } else {
    result = { error: 'access_denied', error_description: 'End-User denied access' };
  }
  ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result, { mergeWithLastSubmission: true }));
}

function report(provider) {
  const note = (ctx, more) => say({
    event: 'grant',
    grant_type: ctx.oidc?.params?.grant_type,
    client: ctx.oidc?.client?.clientId,
    account: ctx.oidc?.entities?.Account?.accountId,
    ...more,
  });
  provider.on('grant.success', (ctx) => note(ctx, { ok: true }));
  provider.on('grant.error', (ctx, err) => note(ctx, { ok: false, error: err.error, detail: err.error_detail ?? err.error_description }));
  provider.on('grant.revoked', (ctx, grantId) => say({ event: 'revoked', grant: grantId }));
  provider.on('authorization.error', (ctx, err) => say({ event: 'authorization', ok: false, error: err.error, detail: err.error_description }));
  provider.on('backchannel.success', (ctx, client) => say({ event: 'backchannel', ok: true, client: client.clientId }));
  provider.on('backchannel.error', (ctx, err, client) => say({ event: 'backchannel', ok: false, client: client.clientId, error: String(err?.cause ?? err) }));
  provider.on('server_error', (ctx, err) => say({ event: 'server_error', error: String(err?.stack ?? err) }));
}

function middleware(provider, cfg) {
  return async (ctx, next) => {
    if (ctx.path.startsWith('/interaction/')) await interaction(provider, cfg, ctx);
    else await next();
    // RFC 8628 section 3.2 leaves the interval to the server; five seconds, the
    // default, is long for a test.
    if (ctx.oidc?.route === 'device_authorization' && ctx.status === 200) ctx.body.interval = cfg.device_interval;
    say({ event: 'request', method: ctx.method, route: ctx.oidc?.route ?? ctx.path.split('/')[1], status: ctx.status });
  };
}

async function revoke(provider, grants, sub) {
  let count = 0;
  for (const [id, owner] of grants) {
    if (owner !== sub) continue;
    await Promise.all([provider.AccessToken, provider.RefreshToken, provider.DeviceCode].map((m) => m.revokeByGrantId(id)));
    await provider.Grant.adapter.destroy(id);
    grants.delete(id);
    count += 1;
  }
  return count;
}

async function command(cmd, provider, cfg, state, grants) {
  if (cmd.access_ttl) state.accessTTL = cmd.access_ttl;
  let count = 0;
  if (cmd.revoke) count = await revoke(provider, grants, cfg.accounts.find((a) => a.email === cmd.revoke)?.sub);
  say({ event: 'answer', id: cmd.id, count });
}

function listen(cfg) {
  const server = cfg.cert_file
    ? createHTTPS({ cert: readFileSync(cfg.cert_file), key: readFileSync(cfg.key_file) })
    : createHTTP();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(cfg.port ?? 0, '127.0.0.1', () => resolve(server));
  });
}

async function main(lines) {
  const cfg = JSON.parse((await lines.next()).value);
  const state = { accessTTL: cfg.access_ttl };
  const grants = new Map();
  const server = await listen(cfg);
  const own = `${cfg.cert_file ? 'https' : 'http'}://127.0.0.1:${server.address().port}`;
  const provider = new Provider(cfg.issuer || own, configuration(cfg, state));
  provider.proxy = Boolean(cfg.issuer); // a fault injector in front keeps the Host and says which scheme it spoke
  provider.on('grant.saved', (grant) => grants.set(grant.jti, grant.accountId));
  report(provider);
  provider.use(middleware(provider, cfg));
  server.on('request', provider.callback());
  say({ event: 'ready', issuer: cfg.issuer || own, address: `127.0.0.1:${server.address().port}` });
  for await (const line of lines) await command(JSON.parse(line), provider, cfg, state, grants);
  process.exit(0); // whoever started us is gone
}

main(createInterface({ input: process.stdin })[Symbol.asyncIterator]()).catch((err) => {
  say({ event: 'failed', error: String(err?.stack ?? err) });
  process.exit(1);
});
