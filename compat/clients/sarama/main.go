// sarama: the three roles of ../README.md. SARAMA_VERSION is the Kafka release it is told.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func config() *sarama.Config {
	result := sarama.NewConfig()
	version := os.Getenv("SARAMA_VERSION")
	if version == "" {
		version = "2.8.0"
	}
	parsed, err := sarama.ParseKafkaVersion(version)
	fail(err)
	result.Version = parsed
	result.Metadata.Retry.Max = 100
	result.Metadata.Retry.Backoff = 200 * time.Millisecond
	return result
}

func produce(bootstrap, topic string, count int, codec string, idempotent bool, prefix string) {
	c := config()
	codecs := map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	c.Producer.Compression = codecs[codec]
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Retry.Max = 200
	c.Producer.Retry.Backoff = 200 * time.Millisecond
	c.Producer.Flush.Frequency = 5 * time.Millisecond
	if idempotent {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
	}
	producer, err := sarama.NewAsyncProducer([]string{bootstrap}, c)
	fail(err)
	var wait sync.WaitGroup
	wait.Add(1)
	go func() {
		defer wait.Done()
		for n := 0; n < count; n++ {
			select {
			case message := <-producer.Successes():
				value, _ := message.Value.Encode()
				fmt.Println("acked", string(value))
			case failure := <-producer.Errors():
				fail(failure)
			}
		}
	}()
	for n := 0; n < count; n++ {
		producer.Input() <- &sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(strconv.Itoa(n)),
			Value: sarama.StringEncoder(fmt.Sprintf("%s-%d", prefix, n)),
		}
	}
	wait.Wait()
	fail(producer.Close())
}

type handler struct {
	mutex       sync.Mutex
	seen, count int
	done        context.CancelFunc
}

func (h *handler) Setup(session sarama.ConsumerGroupSession) error {
	for _, partitions := range session.Claims() {
		fmt.Println("assigned", strings.Trim(strings.ReplaceAll(fmt.Sprint(partitions), " ", ","), "[]"))
	}
	return nil
}

func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case <-session.Context().Done():
			return nil
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			h.mutex.Lock()
			if h.seen == h.count {
				h.mutex.Unlock()
				return nil
			}
			h.seen++
			fmt.Println(message.Partition, message.Offset, string(message.Value))
			session.MarkMessage(message, "")
			last := h.seen == h.count
			h.mutex.Unlock()
			if last {
				session.Commit()
				h.done()
				return nil
			}
		}
	}
}

func consume(bootstrap, topic, group string, count int) {
	c := config()
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	// A member commits as it goes; on sarama's one connection per broker a commit of its own would
	// wait behind each long poll.
	c.Consumer.Offsets.AutoCommit.Enable = count == 1<<30
	c.Consumer.Offsets.AutoCommit.Interval = 200 * time.Millisecond
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = time.Second
	c.Consumer.Group.Rebalance.Timeout = 10 * time.Second
	consumer, err := sarama.NewConsumerGroup([]string{bootstrap}, group, c)
	fail(err)
	ctx, cancel := context.WithCancel(context.Background())
	h := &handler{count: count, done: cancel}
	for ctx.Err() == nil {
		if err := consumer.Consume(ctx, []string{topic}, h); err != nil && !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "consume:", err)
			time.Sleep(200 * time.Millisecond)
		}
	}
	fail(consumer.Close())
}

func main() {
	a := os.Args
	switch a[1] {
	case "produce":
		count, _ := strconv.Atoi(a[4])
		produce(a[2], a[3], count, a[5], a[6] == "1", a[7])
	case "consume":
		count, _ := strconv.Atoi(a[5])
		consume(a[2], a[3], a[4], count)
	case "member":
		consume(a[2], a[3], a[4], 1<<30)
	}
}
