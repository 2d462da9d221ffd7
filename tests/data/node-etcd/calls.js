// What the cases share: a client, its calls as promises, and assertions on their answers.

'use strict';

const assert = require('assert');
const net = require('net');
const Etcd = require('node-etcd');

const URL = process.env.ETCD_URL;
const etcd = new Etcd(URL);

// Calls a method of a client; the answer is `{ body, headers }`.
function call(client, method, ...args) {
  return new Promise((resolve, reject) => {
    client[method](...args, (error, body, headers) => {
      if (error) reject(error);
      else resolve({ body, headers });
    });
  });
}

// The error of a call that must fail.
async function fails(client, method, ...args) {
  const error = await call(client, method, ...args).then(() => null, (failed) => failed);
  assert(error instanceof Error, `${method} ${args} succeeded`);
  return error;
}

// Asserts an answer's action, and its node's members.
function has({ body }, action, node) {
  assert.strictEqual(body.action, action, JSON.stringify(body));
  for (const [name, value] of Object.entries(node)) {
    assert.strictEqual(body.node[name], value, JSON.stringify(body));
  }
}

const set = (key, value, options = {}) => call(etcd, 'set', key, value, options);
const get = (key, options = {}) => call(etcd, 'get', key, options);

// Hosts of so many ports on which nothing listens.
async function closed(count) {
  const servers = Array.from({ length: count }, () => net.createServer());
  const listening = (server) => new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(server.address().port));
  });
  const ports = await Promise.all(servers.map(listening));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports.map((port) => `127.0.0.1:${port}`);
}

module.exports = { Etcd, URL, call, closed, etcd, fails, get, has, set };
