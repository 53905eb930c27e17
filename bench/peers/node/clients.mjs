// Devices as clients of MQTT.js (npm: mqtt): a client for each, a message of QoS 1 every interval.
// They go on until standard input ends; then it says how many were acknowledged, and how late.
//
// node clients.mjs FOLDER_OF_THE_LIBRARY PORT CLIENTS CONNECTING_MAX INTERVAL_MS PAYLOAD

import { createRequire } from 'node:module';
import { createHistogram, performance } from 'node:perf_hooks';

const [folder, ...rest] = process.argv.slice(2);
const payload = rest.pop();
const [port, clients, connectingMax, interval] = rest.map(Number);
const mqtt = createRequire(`${folder}/`)('mqtt');
const latency = createHistogram(); // in nanoseconds
let begun = 0;
let connecting = 0;

function begin() {
  while (begun < clients && connecting < connectingMax) device(begun++);
}

function device(number) {
  const clientId = `bench-${number}`;
  const topic = `factory/north/${clientId}/telemetry`;
  const client = mqtt.connect({
    protocol: 'mqtt',
    protocolVersion: 4,
    host: '127.0.0.1',
    port,
    clientId,
    keepalive: 60,
  });
  const publish = () => {
    const at = performance.now();
    client.publish(topic, payload, { qos: 1 }, (error) => {
      if (!error) latency.record(Math.max(1, Math.round((performance.now() - at) * 1e6)));
    });
  };
  connecting += 1;
  client.on('error', () => {}); // it connects again by itself
  client.once('connect', () => {
    connecting -= 1;
    begin();
    setTimeout(() => {
      publish();
      setInterval(publish, interval);
    }, (interval * (number % 1000)) / 1000);
  });
}

process.stdin.resume().on('end', () => {
  console.log(JSON.stringify({ acked: latency.count, p99_ms: latency.percentile(99) / 1e6 }));
  process.exit();
});
begin();
