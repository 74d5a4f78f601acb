// Two OAuth clients that are not ours, openid-client and oauth4webapi, at an authorization
// server under test. The test is the browser: it reads a line {"open": URL} from standard
// output and answers with the address where the browser ended; {"device": URL} is answered
// when the code was approved. The first line of standard input says where and as whom.
import { createInterface } from 'node:readline/promises'
import assert from 'node:assert/strict'
import * as client from 'openid-client'
import * as oauth from 'oauth4webapi'

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const read = async () => (await lines.next()).value
const ask = async (question) => { console.log(JSON.stringify(question)); return read() }
const { issuer, web, machine, signer } = JSON.parse(await read())
const server = new URL(issuer)
const callback = 'http://127.0.0.1:4711/cb'

async function openidClient() {
  const insecure = { execute: [client.allowInsecureRequests] }
  const config = await client.dynamicClientRegistration(server, {
    client_name: 'openid-client', redirect_uris: ['http://127.0.0.1/cb'], token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
  }, client.None(), insecure)
  const verifier = client.randomPKCECodeVerifier(), nonce = client.randomNonce(), state = client.randomState()
  const asked = {
    redirect_uri: callback, scope: 'openid email imap offline_access', state, nonce, max_age: '3600',
    code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  }
  for (const url of [client.buildAuthorizationUrl(config, asked), await client.buildAuthorizationUrlWithPAR(config, asked)]) {
    const back = new URL(await ask({ open: url.href }))
    assert.equal(back.searchParams.get('iss'), issuer)
    const tokens = await client.authorizationCodeGrant(config, back, { pkceCodeVerifier: verifier, expectedNonce: nonce, expectedState: state, maxAge: 3600, idTokenExpected: true })
    const info = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)
    assert.ok(info.email_verified && info.email.includes('@'))
    const next = await client.refreshTokenGrant(config, tokens.refresh_token)
    assert.notEqual(next.refresh_token, tokens.refresh_token)
    await client.tokenRevocation(config, next.refresh_token)
    await assert.rejects(client.refreshTokenGrant(config, next.refresh_token), { error: 'invalid_grant' })
    // The code again: refused, whoever holds it.
    await assert.rejects(client.authorizationCodeGrant(config, back, { pkceCodeVerifier: verifier, expectedNonce: nonce, expectedState: state, maxAge: 3600 }), { error: 'invalid_grant' })
  }
  // An answer of another issuer is refused by the client: ours says who it is.
  const foreign = new URL(await ask({ open: client.buildAuthorizationUrl(config, asked).href }))
  foreign.searchParams.set('iss', 'https://evil.test')
  await assert.rejects(client.authorizationCodeGrant(config, foreign, { pkceCodeVerifier: verifier, expectedNonce: nonce, expectedState: state, maxAge: 3600 }))
  // A refusal comes back as an error of the protocol.
  const refused = new URL(await ask({ refuse: client.buildAuthorizationUrl(config, asked).href }))
  await assert.rejects(client.authorizationCodeGrant(config, refused, { expectedState: state, pkceCodeVerifier: verifier, expectedNonce: nonce, maxAge: 3600 }), { error: 'access_denied' })

  const device = await client.initiateDeviceAuthorization(config, { scope: 'smtp' })
  await ask({ device: device.verification_uri_complete })
  const connected = await client.pollDeviceAuthorizationGrant(config, { ...device, interval: 0.01 })
  assert.equal(connected.scope, 'smtp')

  for (const authentication of [client.ClientSecretBasic(machine.secret), client.ClientSecretPost(machine.secret)]) {
    const robot = await client.discovery(server, machine.id, {}, authentication, insecure)
    const token = await client.clientCredentialsGrant(robot, { scope: 'smtp' })
    assert.equal(token.refresh_token, undefined)
    assert.equal((await client.tokenIntrospection(robot, token.access_token)).active, true)
    await client.tokenRevocation(robot, token.access_token)
    assert.deepEqual(await client.tokenIntrospection(robot, token.access_token), { active: false })
  }
  for (const [authentication, expected] of [[client.ClientSecretBasic('wrong'), { status: 401 }], [client.ClientSecretPost('wrong'), { error: 'invalid_client' }]]) {
    const forger = await client.discovery(server, machine.id, {}, authentication, insecure)
    await assert.rejects(client.clientCredentialsGrant(forger, {}), expected)
  }
}

// Programs that sign: one that was entered with its public key, and one that registers with
// a key that it has just made, by each algorithm.
async function signing() {
  const insecure = { execute: [client.allowInsecureRequests] }
  const { kid, ...jwk } = signer.key
  const own = { kid, key: await crypto.subtle.importKey('jwk', jwk, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign']) }
  const robot = await client.discovery(server, signer.id, {}, client.PrivateKeyJwt(own), insecure)
  const token = await client.clientCredentialsGrant(robot, { scope: 'smtp' })
  assert.equal((await client.tokenIntrospection(robot, token.access_token)).active, true)
  await client.tokenRevocation(robot, token.access_token)
  assert.deepEqual(await client.tokenIntrospection(robot, token.access_token), { active: false })

  // What it must not be: used twice, for another, too long, of another key, without a kid that is known.
  let used
  const changed = (f) => client.discovery(server, signer.id, {}, client.PrivateKeyJwt(own, { [client.modifyAssertion]: f }), insecure)
  const again = await changed((_, claims) => { used ??= claims.jti; claims.jti = used })
  await client.clientCredentialsGrant(again, {})
  await assert.rejects(client.clientCredentialsGrant(again, {}), { error: 'invalid_client' })
  for (const f of [
    (_, claims) => { claims.aud = 'https://evil.test' }, (_, claims) => { claims.aud = [issuer, 'https://evil.test'] },
    (_, claims) => { claims.exp += 3600 }, (_, claims) => { claims.exp -= 3600 }, (_, claims) => { claims.sub = 'board' },
    (head) => { head.kid = 'x' }, (_, claims) => { delete claims.jti },
  ]) await assert.rejects(client.clientCredentialsGrant(await changed(f), {}), { error: 'invalid_client' })
  const stranger = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
  const forger = await client.discovery(server, signer.id, {}, client.PrivateKeyJwt({ key: stranger.privateKey, kid }), insecure)
  await assert.rejects(client.clientCredentialsGrant(forger, {}), { error: 'invalid_client' })

  const rsa = { modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }
  for (const [alg, kind] of [['RS256', { name: 'RSASSA-PKCS1-v1_5', ...rsa }], ['PS256', { name: 'RSA-PSS', ...rsa }], ['ES256', { name: 'ECDSA', namedCurve: 'P-256' }], ['EdDSA', 'Ed25519']]) {
    const pair = await crypto.subtle.generateKey(kind, true, ['sign', 'verify'])
    const { kty, n, e, crv, x, y } = await crypto.subtle.exportKey('jwk', pair.publicKey)
    const key = { key: pair.privateKey, kid: 'mine' }
    // Ed25519 goes by its older name as well (RFC 9864).
    const authentication = client.PrivateKeyJwt(key, { [client.modifyAssertion]: (head) => { head.alg = alg } })
    const config = await client.dynamicClientRegistration(server, {
      client_name: `signs by ${alg}`, redirect_uris: ['http://127.0.0.1/cb'], token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: alg,
      grant_types: ['authorization_code', 'refresh_token'], jwks: { keys: [{ kty, n, e, crv, x, y, kid: 'mine', use: 'sig' }] },
    }, authentication, insecure)
    assert.equal(config.clientMetadata().token_endpoint_auth_method, 'private_key_jwt')
    const verifier = client.randomPKCECodeVerifier(), state = client.randomState()
    const asked = { redirect_uri: callback, scope: 'imap offline_access', state, code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' }
    const url = await client.buildAuthorizationUrlWithPAR(config, asked)
    const tokens = await client.authorizationCodeGrant(config, new URL(await ask({ open: url.href })), { pkceCodeVerifier: verifier, expectedState: state })
    // A stolen refresh token is worth nothing without the key.
    const thief = await client.discovery(server, config.clientMetadata().client_id, {}, client.None(), insecure)
    await assert.rejects(client.refreshTokenGrant(thief, tokens.refresh_token), { error: 'invalid_client' })
    const next = await client.refreshTokenGrant(config, tokens.refresh_token)
    await client.tokenRevocation(config, next.refresh_token)
  }
  await assert.rejects(client.dynamicClientRegistration(server, {
    redirect_uris: ['http://127.0.0.1/cb'], token_endpoint_auth_method: 'private_key_jwt', jwks_uri: `${issuer}/jwks`,
  }, client.None(), insecure), { error: 'invalid_client_metadata' })
}

async function oauth4webapi() {
  const plain = { [oauth.allowInsecureRequests]: true }
  for (const algorithm of ['oidc', 'oauth2']) {
    const as = await oauth.processDiscoveryResponse(server, await oauth.discoveryRequest(server, { ...plain, algorithm }))
    const me = { client_id: web.id }, secret = oauth.ClientSecretBasic(web.secret)
    const verifier = oauth.generateRandomCodeVerifier(), state = oauth.generateRandomState(), nonce = oauth.generateRandomNonce()
    const url = new URL(as.authorization_endpoint)
    for (const [name, value] of Object.entries({
      client_id: web.id, redirect_uri: callback, response_type: 'code', scope: 'openid imap', state, nonce,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
    })) url.searchParams.set(name, value)
    const back = new URL(await ask({ open: url.href }))
    const parameters = oauth.validateAuthResponse(as, me, back, state)
    const response = await oauth.authorizationCodeGrantRequest(as, me, secret, parameters, callback, verifier, plain)
    const tokens = await oauth.processAuthorizationCodeResponse(as, me, response, { expectedNonce: nonce, requireIdToken: true })
    // The signature, by the keys that are published.
    await oauth.validateApplicationLevelSignature(as, response, plain)
    const claims = oauth.getValidatedIdTokenClaims(tokens)
    await oauth.processUserInfoResponse(as, me, claims.sub, await oauth.userInfoRequest(as, me, tokens.access_token, plain))
    await assert.rejects(async () => oauth.processUserInfoResponse(as, me, claims.sub, await oauth.userInfoRequest(as, me, 'llat_' + 'A'.repeat(43), plain)))
    const next = await oauth.processRefreshTokenResponse(as, me, await oauth.refreshTokenGrantRequest(as, me, secret, tokens.refresh_token, plain))
    await oauth.processRevocationResponse(await oauth.revocationRequest(as, me, secret, next.refresh_token, plain))
    // A verifier that does not belong to the code ends what the code was for.
    const again = new URL(await ask({ open: url.href }))
    const wrong = await oauth.authorizationCodeGrantRequest(as, me, secret, oauth.validateAuthResponse(as, me, again, state), callback, oauth.generateRandomCodeVerifier(), plain)
    await assert.rejects(oauth.processAuthorizationCodeResponse(as, me, wrong, { expectedNonce: nonce }), { error: 'invalid_grant' })
  }
}

await openidClient()
await signing()
await oauth4webapi()
console.log(JSON.stringify({ done: true }))
process.exit(0)
