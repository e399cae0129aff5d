// ioredis against a cluster: counters, pipelines and reconnects through the death of the leader.
// Usage: node ioredis_test.js PORT... ; the runner kills the leader when this prints "READY".
'use strict';
const Redis = require('ioredis');
const assert = require('node:assert');
const ports = process.argv.slice(2).map(Number);

function connect(port) {
  const client = new Redis({ port, host: '127.0.0.1', maxRetriesPerRequest: 0,
    commandTimeout: 3000,
    retryStrategy: () => 50 });
  client.on('error', () => {});
  return client;
}

async function main() {
  const clients = ports.map(connect);
  await clients[0].del('io:n', 'io:list');
  assert.strictEqual(await clients[0].set('io:k', 'v', 'EX', 100), 'OK');
  for (const c of clients) assert.strictEqual(await c.get('io:k'), 'v');
  const piped = await clients[1].pipeline().set('io:a', 1).incr('io:a').get('io:a').exec();
  assert.deepStrictEqual(piped.map(([e, v]) => v), ['OK', 2, '2']);
  assert.ok((await clients[2].info()).includes('redis_version'));
  const seen = [];
  for await (const keys of clients[0].scanStream({ match: 'io:*', count: 10 })) seen.push(...keys);
  assert.ok(seen.includes('io:k'));

  let acked = 0, unknown = 0, refused = 0, killed = false, after = 0;
  const until = Date.now() + 60000;
  while (after < 300 && Date.now() < until) {
    const c = clients[(acked + unknown + refused) % clients.length];
    if (c.status !== 'ready') { await new Promise((r) => setTimeout(r, 5)); refused++; continue; }
    try {
      await c.incr('io:n');
      acked++;
      if (killed) after++;
    } catch (e) {
      if (/^(NOLEADER|OVERLOADED)/.test(e.message)) refused++; else unknown++;
    }
    if (acked === 200 && !killed) { killed = true; console.log('READY'); }
  }
  assert.ok(after >= 300, `only ${after} increments after the failover`);
  const alive = clients.find((c) => c.status === 'ready');
  const n = Number(await alive.get('io:n'));
  assert.ok(n >= acked && n <= acked + unknown, `counter ${n}, acknowledged ${acked}, unknown ${unknown}`);
  console.log(`ioredis: counter ${n}, acknowledged ${acked}, unknown ${unknown}`);
  clients.forEach((c) => c.disconnect());
}

main().catch((e) => { console.error(e); process.exit(1); });
