// node-redis (RESP3) against a cluster, through the death of the leader.
// Usage: node redis_test.js PORT... ; the runner kills the leader when this prints "READY".
'use strict';
const { createClient } = require('redis');
const assert = require('node:assert');
const ports = process.argv.slice(2).map(Number);

async function connect(port) {
  const client = createClient({ socket: { port, host: '127.0.0.1', reconnectStrategy: () => 50 }, RESP: 3,
    disableOfflineQueue: true });
  client.on('error', () => {});
  await client.connect();
  return client;
}

async function main() {
  const clients = [];
  for (const p of ports) clients.push(await connect(p));
  await clients[0].del('nr:n');
  assert.strictEqual(await clients[0].set('nr:k', 'v', { expiration: { type: 'EX', value: 100 } }), 'OK');
  for (const c of clients) assert.strictEqual(await c.get('nr:k'), 'v');
  assert.deepStrictEqual(await Promise.all([clients[1].set('nr:a', '1'), clients[1].incr('nr:a'), clients[1].get('nr:a')]),
    ['OK', 2, '2']);
  assert.deepStrictEqual(await clients[2].mGet(['nr:a', 'nr:none']), ['2', null]);
  let found = false;
  for await (const keys of clients[0].scanIterator({ MATCH: 'nr:*' })) found = found || keys.includes('nr:k');
  assert.ok(found);

  let acked = 0, unknown = 0, refused = 0, killed = false, after = 0, turn = 0;
  const until = Date.now() + 60000;
  while (after < 300 && Date.now() < until) {
    const c = clients[turn++ % clients.length];
    if (!c.isReady) { await new Promise((r) => setTimeout(r, 5)); continue; }
    try {
      await c.incr('nr:n');
      acked++;
      if (killed) after++;
    } catch (e) {
      if (/^(NOLEADER|OVERLOADED)/.test(e.message)) refused++; else unknown++;
    }
    if (acked === 200 && !killed) { killed = true; console.log('READY'); }
  }
  assert.ok(after >= 300, `only ${after} increments after the failover`);
  const alive = clients.find((c) => c.isReady);
  const n = Number(await alive.get('nr:n'));
  assert.ok(n >= acked && n <= acked + unknown, `counter ${n}, acknowledged ${acked}, unknown ${unknown}`);
  console.log(`node-redis: counter ${n}, acknowledged ${acked}, unknown ${unknown}, refused ${refused}`);
  clients.forEach((c) => c.destroy());
}

main().catch((e) => { console.error(e); process.exit(1); });
